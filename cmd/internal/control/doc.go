// Package control is the talk between a serving iomapfs and the commands that ask it: a Unix socket of mode 0600, one
// line of JSON each way.
//
//	{"cmd":"status"}  →  {"data":{…}}
//	{"cmd":"freeze"}  →  {"error":"already frozen"}
//
// A connection may carry several requests, one after the other. Commands may wait: "wait" answers when the image is
// closed.
package control
