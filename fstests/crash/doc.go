// Package crash records what workloads write and looks at the states that a crash would leave.
package crash
