"""Files of plans and jobs, on a folder or an object store."""
