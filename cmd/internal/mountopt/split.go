package mountopt

import (
	"fmt"
	"strings"
)

// Split cuts an -o argument at its commas and takes quotes and escapes off. Empty words are dropped.
// An open quote or a backslash at the end is an error.
func Split(s string) ([]string, error) {
	var words []string
	var w strings.Builder
	quoted, any := false, false
	end := func() {
		if w.Len() > 0 || any {
			words = append(words, w.String())
		}
		w.Reset()
		any = false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i == len(s) {
				return nil, fmt.Errorf("options %q: nothing follows the backslash at the end", s)
			}
			w.WriteByte(s[i])
		case c == '"':
			quoted, any = !quoted, true
		case c == ',' && !quoted:
			end()
		default:
			w.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("options %q: a double quote is open at the end", s)
	}
	end()
	return words, nil
}

// Join makes an -o argument that Split cuts into the same words.
func Join(words []string) string {
	esc := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`)
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = esc.Replace(w)
		if w == "" {
			out[i] = `""`
		}
	}
	return strings.Join(out, ",")
}

// canonical is the key of a word as tables hold it: lower hyphens. The words that begin with an underscore keep it.
func canonical(key string) string {
	if strings.HasPrefix(key, "_") {
		return key
	}
	return strings.ReplaceAll(key, "_", "-")
}
