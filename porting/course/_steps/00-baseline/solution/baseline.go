package minix

// legacyCost is how often get_block is called on the legacy path, as you measured it.
var legacyCost = struct{ fiemap, swap, write int }{
	fiemap: 10,  // FIEMAP of a file of 500 blocks, 28 of them with data, in 4 runs
	swap:   422, // swapon of a file of 400 blocks
	write:  100, // a write of 100 blocks to a new file, and fsync
}
