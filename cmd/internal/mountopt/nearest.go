package mountopt

import "strings"

// Nearest gives the known word that s was probably meant to be, or "".
func Nearest(s string, known []string) string {
	s = canonical(s)
	best, dist := "", max(1, len(s)/3)+1
	for _, k := range known {
		if d := distance(s, canonical(k)); d < dist {
			best, dist = k, d
		}
	}
	if best == "" && len(s) >= 3 {
		for _, k := range known {
			if strings.HasPrefix(canonical(k), s) {
				return k
			}
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with a neighbour.
func distance(a, b string) int {
	// Three rows of the table are enough: row i needs i-1 and, for swaps, i-2.
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
