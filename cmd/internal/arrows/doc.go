// Package arrows holds the tests of the repository about its own code: who may import whom, exported names without
// documentation, locks without a comment, internal packages that nobody imports.
//
// The table of arrows is arrows.txt beside this file. A line
//
//	a b < c d
//
// lets c and d import a and b, and all that a and b may import. Names are folders from the root of the repository; x/...
// is x and everything below it. A line
//
//	a !< b
//
// forbids b to reach a by any way at all, whatever the others say. A line
//
//	m <- a b
//
// lets a and b use the module m from outside; a package uses no other. Tests may use what they like as far as their
// go.mod has it: what a module requires is checked by building it alone.
package arrows
