"""Training of small CLIPs from scratch: the loop that proxies and trained runs share, and runs that a job trains."""
