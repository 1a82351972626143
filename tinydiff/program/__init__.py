"""Programs: a function of arrays, written down as the flat list of kernel calls that it is."""
