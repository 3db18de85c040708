package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Bug is a classic mistake of a step: a replacement in its solution that the checks must catch.
type Bug struct {
	Name, Why, File string
	Old, New        string
}

// Bugs reads the mistakes of a step. The file holds, for each:
//
//	== last-flag: LAST on an answer that was cut short
//	file iomap.go
//	-the lines as they are right
//	+the lines as they are wrong
func (s *Step) Bugs() ([]Bug, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "bugs.txt"))
	if err != nil {
		return nil, err
	}
	var bugs []Bug
	for i, line := range strings.Split(string(b), "\n") {
		var last *Bug
		if len(bugs) > 0 {
			last = &bugs[len(bugs)-1]
		}
		switch {
		case strings.HasPrefix(line, "== "):
			name, why, _ := strings.Cut(line[3:], ": ")
			bugs = append(bugs, Bug{Name: name, Why: why})
		case line == "" || strings.HasPrefix(line, "#"):
		case last == nil:
			return nil, fmt.Errorf("%s/bugs.txt:%d: before the first mistake", s.Dir, i+1)
		case strings.HasPrefix(line, "file "):
			last.File = line[5:]
		case line[0] == '-':
			last.Old += line[1:] + "\n"
		case line[0] == '+':
			last.New += line[1:] + "\n"
		default:
			return nil, fmt.Errorf("%s/bugs.txt:%d: neither \"file\" nor \"-\" nor \"+\"", s.Dir, i+1)
		}
	}
	return bugs, nil
}

// Break gives the files with the mistake made in one of them, which is written to dir.
func (b *Bug) Break(files Files, dir string) (Files, error) {
	src, err := os.ReadFile(files[b.File])
	if err != nil {
		return nil, fmt.Errorf("mistake %s: %w", b.Name, err)
	}
	if strings.Count(string(src), b.Old) != 1 {
		return nil, fmt.Errorf("mistake %s: its lines are in %s %d times, want once", b.Name, b.File, strings.Count(string(src), b.Old))
	}
	path := filepath.Join(dir, b.File)
	if err := os.WriteFile(path, []byte(strings.Replace(string(src), b.Old, b.New, 1)), 0o600); err != nil {
		return nil, err
	}
	broken := Files{}
	for k, v := range files {
		broken[k] = v
	}
	broken[b.File] = path
	return broken, nil
}
