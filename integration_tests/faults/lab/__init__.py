"""The fault lab: a block device of our own under real file systems, workloads that run on it, and what survives."""
