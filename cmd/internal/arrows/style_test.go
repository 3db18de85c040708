package arrows

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sources parses every file of the repository that is not a test, and calls f with it.
func sources(t *testing.T, f func(fset *token.FileSet, path string, file *ast.File)) {
	t.Helper()
	root := top(t)
	n := 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		n++
		f(fset, rel, file)
		return err
	}))
	require.Greater(t, n, 50, "the walk misses the sources")
}

// undocumented lists the exported names of a file without a comment. A comment on a group of constants or variables
// counts for all in it.
func undocumented(fset *token.FileSet, file *ast.File) []string {
	var bad []string
	miss := func(name *ast.Ident, what string) {
		bad = append(bad, fmt.Sprintf("line %d: %s %s", fset.Position(name.Pos()).Line, what, name.Name))
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && receiverExported(d) {
				miss(d.Name, "func")
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
						miss(s.Name, "type")
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
							miss(n, d.Tok.String())
						}
					}
				}
			}
		}
	}
	return bad
}

// receiverExported is false for methods of unexported types: their documentation is the interface's.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	sources(t, func(fset *token.FileSet, path string, file *ast.File) {
		if file.Name.Name == "main" {
			return
		}
		for _, b := range undocumented(fset, file) {
			t.Errorf("%s: %s: no comment", path, b)
		}
	})
}

// bareLocks lists the mutexes of a file without a comment beside or above them.
func bareLocks(fset *token.FileSet, file *ast.File) []string {
	var bad []string
	isLock := func(e ast.Expr) bool {
		if i, ok := e.(*ast.IndexExpr); ok {
			e = i.X // invariant.Mutex[rank]
		}
		if s, ok := e.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "invariant") {
				return s.Sel.Name == "Mutex" || s.Sel.Name == "RWMutex"
			}
		}
		return false
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			for _, f := range n.Fields.List {
				if isLock(f.Type) && f.Doc == nil && f.Comment == nil {
					bad = append(bad, fmt.Sprintf("line %d", fset.Position(f.Pos()).Line))
				}
			}
		case *ast.GenDecl:
			for _, s := range n.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && n.Tok == token.VAR && v.Type != nil && isLock(v.Type) && v.Doc == nil && v.Comment == nil && n.Doc == nil {
					bad = append(bad, fmt.Sprintf("line %d", fset.Position(v.Pos()).Line))
				}
			}
		}
		return true
	})
	return bad
}

func TestLocksSayWhatTheyGuard(t *testing.T) {
	sources(t, func(fset *token.FileSet, path string, file *ast.File) {
		for _, b := range bareLocks(fset, file) {
			t.Errorf("%s: %s: a mutex without a comment: what does it guard, what may be held when taking it?", path, b)
		}
	})
}

func TestPackagesAreDocumented(t *testing.T) {
	doc := map[string]bool{}
	sources(t, func(_ *token.FileSet, path string, file *ast.File) {
		dir := filepath.Dir(path)
		doc[dir] = doc[dir] || file.Doc != nil
	})
	for dir, ok := range doc {
		if !ok {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}

// The checks themselves can fail.
func TestChecksSeeWhatIsWrong(t *testing.T) {
	const src = `package p
import "sync"
type Bare struct{ mu sync.Mutex }
// Good is documented.
type Good struct {
	mu sync.RWMutex // guards nothing
}
func Loud() {}
func (Good) Method() {}
func (quiet) Method() {}
type quiet struct{}
const A = 1
// Group.
const (
	B = 2
	C = 3
)
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", src, parser.ParseComments)
	require.NoError(t, err)
	require.Equal(t, []string{"line 3: type Bare", "line 8: func Loud", "line 9: func Method", "line 12: const A"}, undocumented(fset, file))
	require.Equal(t, []string{"line 3"}, bareLocks(fset, file))
}
