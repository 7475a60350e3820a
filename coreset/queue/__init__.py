"""Jobs and tasks in Redis and RQ: the only package that knows either."""
