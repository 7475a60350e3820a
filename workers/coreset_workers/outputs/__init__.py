"""Files that a job writes for people: report, shards, thumbnails."""
