package all

// Info is what a filesystem tells of itself.
type Info struct {
	Type     string   `json:"type"`
	Label    string   `json:"label"`
	UUID     string   `json:"uuid"`
	State    string   `json:"state"`
	Features []string `json:"features"`
	Fields   []Field  `json:"fields"`
}

// Field is one more line, in an order that reads well. Value is a number or a string.
type Field struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
	Unit  string `json:"unit,omitempty"`
}

// Checked is the outcome of a check.
type Checked struct {
	Problems    []Problem `json:"problems"`
	More        bool      `json:"more"`  // stopped at the limit
	Dirty       bool      `json:"dirty"` // not unmounted cleanly, which is no problem in itself
	Files       uint32    `json:"files"`
	Directories uint32    `json:"directories"`
}

// Problem is one finding of a check.
type Problem struct {
	Code  string `json:"code"` // stable
	Where string `json:"where"`
	What  string `json:"what"`
	Ino   uint64 `json:"ino,omitempty"`
}
