package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every field that the commands print as JSON is described.
func TestJSONIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/json.md")
	require.NoError(t, err)
	tag := regexp.MustCompile("`json:\"([a-z_]+)")
	fields := 0
	for _, pattern := range []string{"*.go", "../internal/hostmnt/*.go", "../../fs/all/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, f := range files {
			src, err := os.ReadFile(f)
			require.NoError(t, err)
			for _, m := range tag.FindAllSubmatch(src, -1) {
				fields++
				require.True(t, strings.Contains(string(page), "`"+string(m[1])+"`"), "%s: docs/json.md does not have the field %s", f, m[1])
			}
		}
	}
	require.Greater(t, fields, 50)
}
