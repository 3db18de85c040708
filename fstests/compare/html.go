package compare

import (
	"fmt"
	"html/template"
	"io"
	"strconv"
	"time"
)

// WriteHTML writes a page that needs nothing else: what was proved, a chart of each operation, and all figures. how says how they were
// made.
func WriteHTML(w io.Writer, how string, results []Result) error {
	return page.Execute(w, struct {
		How     string
		Results []Result
	}{how, results})
}

// Micro writes a duration in microseconds.
func Micro(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Nanoseconds())/1e3, 'f', 0, 64)
}

// bar is one bar of a chart: pixels.
type bar struct {
	Y, Middle, Text   int
	Wide, Low, High   float64
	Min, Max          float64
	Path, Label, Fill string
}

const chartWide = 520

// bars draws the times of an operation: median, quartiles, extremes.
func bars(r Result) []bar {
	most := time.Duration(1)
	for _, s := range r.Sides {
		most = max(most, s.High.Time, s.Median.Time)
	}
	px := func(d time.Duration) float64 { return 80 + chartWide*float64(min(d, most))/float64(most) }
	var list []bar
	for i, s := range r.Sides {
		fill := map[string]string{"legacy": "#b58b63", "bridge": "#8f86a8", "iomap": "#4f8f8b"}[s.Path]
		list = append(list, bar{
			Y: 4 + 26*i, Middle: 14 + 26*i, Text: 19 + 26*i, Wide: px(s.Median.Time) - 80, Low: px(s.Low.Time), High: px(s.High.Time),
			Min: px(s.Min.Time), Max: px(s.Max.Time), Path: s.Path, Fill: fill,
			Label: Micro(s.Median.Time) + " µs, CPU " + Micro(s.Median.CPU),
		})
	}
	return list
}

func perPage(s Side) string {
	if s.Median.Pages == 0 {
		return "–"
	}
	return strconv.FormatFloat(float64(s.Median.StateBytes)/float64(s.Median.Pages), 'f', 1, 64)
}

func meanBio(s Side) string {
	if s.Median.Bios == 0 {
		return "–"
	}
	return strconv.FormatFloat(float64(s.Median.BioBytes)/float64(s.Median.Bios)/1024, 'f', 1, 64)
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"bars": bars, "micro": Micro, "perPage": perPage, "meanBio": meanBio,
	"percent": func(f float64) string { return fmt.Sprintf("%.0f%%", 100*f) },
	"times":   func(f float64) string { return fmt.Sprintf("%.2f×", f) },
	"high":    func(n int) int { return 8 + 26*n },
	"add":     func(a, b int) int { return a + b },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>legacy against iomap</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:2em auto;padding:0 1em;max-width:64em}
h1{font-weight:600;margin-bottom:.2em}h3{margin:1.6em 0 0}.note{color:#666;margin:.1em 0 .4em}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}td,th{padding:.2em .7em;text-align:right;white-space:nowrap}
th{border-bottom:1px solid #999;position:sticky;top:0;background:#fff}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}
tr.first td{border-top:1px solid #ddd}.wide{overflow-x:auto}svg text{font:13px system-ui,sans-serif}.bad{color:#b00020;font-weight:600}
</style>
<h1>Legacy against iomap</h1>
<p class="note">{{.How}}</p>
<p>Each operation ran on each path, on equal copies of one image. Bars are the median time; the box on a bar spans the quartiles, the thin
line the extremes (cut where a bar would leave the page). Runs of the paths took turns. Calls and locks are those of one more run, in which nothing was timed.</p>
{{range $r := .Results}}
<h3>{{.Op}}{{if .Workload}} <small>(workload)</small>{{end}}</h3>
<p class="note">{{.What}}.
{{if .Same}}Proved the same: bytes, answers, and the trees of {{.Files}} names in images that the checker accepts.{{else}}<span class="bad">The paths differ.</span>{{end}}
{{if .Ratio}}iomap takes {{if .Clear}}clearly{{else}}within the spread{{end}} 1/{{times .Ratio}} of the time, 1/{{times .CPURatio}} of the processor; the machine wavered by {{percent .Noise}}.{{end}}</p>
{{with bars .}}<svg width="900" height="{{high (len .)}}" role="img" aria-label="times of {{$r.Op}}">
{{range .}}<text x="0" y="{{.Text}}">{{.Path}}</text><rect x="80" y="{{.Y}}" width="{{printf "%.0f" .Wide}}" height="20" fill="{{.Fill}}"/>
<line x1="{{printf "%.0f" .Min}}" x2="{{printf "%.0f" .Max}}" y1="{{.Middle}}" y2="{{.Middle}}" stroke="#222"/>
<path d="M{{printf "%.0f" .Low}} {{add .Y 5}}H{{printf "%.0f" .High}}V{{add .Y 15}}H{{printf "%.0f" .Low}}Z" fill="none" stroke="#222"/>
<text x="{{printf "%.0f" .High}}" dx="10" y="{{.Text}}">{{.Label}}</text>
{{end}}</svg>{{end}}
{{end}}
<h2>Figures</h2><div class="wide"><table><tr><th>operation<th>path<th>time µs<th>quartiles<th>CPU µs<th>allocations<th>get_block<th>begin<th>bios<th>mean KiB<th>locks<th>state/page</tr>
{{range $r := .Results}}{{range $i, $s := .Sides}}<tr{{if eq $i 0}} class="first"{{end}}><td>{{if eq $i 0}}{{$r.Op}}{{end}}<td>{{.Path}}<td>{{micro .Median.Time}}<td>{{micro .Low.Time}}–{{micro .High.Time}}<td>{{micro .Median.CPU}}<td>{{.Median.Allocs}}<td>{{.Median.GetBlock}}<td>{{.Median.Begin}}<td>{{.Median.Bios}}<td>{{meanBio .}}<td>{{.Taken}}<td>{{perPage .}}</tr>
{{end}}{{end}}</table></div>
<p class="note">state/page: bytes that the layer keeps beside each cached page of the file when the operation is over.</p>
</html>
`))
