"""Damaged and hostile recordings and transcripts: made, mutated, and read in a process of their own."""
