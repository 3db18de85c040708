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

// Problem is one finding of a check.
type Problem struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Fix   string `json:"fix,omitempty"` // what a repair would do
}
