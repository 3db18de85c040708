// Package term prints for people: tables, sizes, and progress that shows on a terminal only.
package term
