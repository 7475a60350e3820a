# The job: which shards, which checkpoints, how many samples to keep. Workers read the paths, so they are absolute.
cat job.json

# A mistake is refused at the door, with the field.
curl -s "$CORESET/v1/jobs" --json '{"pool": {"shards": ["/data/pool.tar"]}, "checkpoints": {"run": "/data/logs"}, "select": {"k": 0}}'

# What would the job do? A worker looks at the shards and the checkpoints, and starts nothing. While workers are busy the answer is 503 with a Retry-After, which `--retry` heeds.
curl -s --retry 20 "$CORESET/v1/jobs?validate_only=true" --json @job.json -o plan.json -w '%{http_code} %{size_download} bytes\n'
grep -o '"n_samples":{[^}]*}' plan.json

# Start it. The key makes a repeated POST the same job, and `Location` says where it is.
curl -s "$CORESET/v1/jobs" --json @job.json -H 'Idempotency-Key: nightly-2026-11-25' -o started.json -w '%{http_code}, again in %header{retry-after} s\n'
job=$(curl -s "$CORESET/v1/jobs" --json @job.json -H 'Idempotency-Key: nightly-2026-11-25' -o started.json -w '%header{location}')
echo "$job"

# Follow it: one line stays open until the job has ended. Its progress, once a second, is left out here.
curl -sN "$CORESET$job/events" | grep '^data: {"type":"[swe]' | cut -c1-120

# Or poll: without If-None-Match, `wait` holds the answer until the job has ended, a minute at most.
curl -s "$CORESET$job?wait=30" -D headers.txt -o job-now.json
grep -o '"status":"[a-z]*"' job-now.json
grep -o '"samples":{[^}]*}}' job-now.json

# Nothing new costs nothing.
curl -s "$CORESET$job" -H "If-None-Match: $(sed -n 's/^etag: \(.*\)\r$/\1/ip' headers.txt)" -w '%{http_code}\n'

# The result names every file, with its size and its hash.
curl -s "$CORESET$job/result" -o result.json -w '%{http_code}\n'
grep -e '"read"' -e '"scored"' -e 'subset.npy' result.json

# Another subset from the same scores: no GPU, and no new job.
selection=$(curl -s "$CORESET$job/selections" --json '{"k": 20, "by": {"clip_score": 1}, "filters": {"caption_words": {"min": 3}}}' -o selection.json -w '%header{location}')
echo "$selection"
grep -o '"k":[0-9]*,"rankable":[0-9]*' selection.json

# Its files: DataComp's uid file, and a table with all scores.
curl -s "$CORESET$selection/files/subset.npy" -o subset.npy -w '%{http_code} %{size_download} bytes\n'
curl -s "$CORESET$selection/files/subset.parquet" -o subset.parquet -w '%{http_code}\n'
head -c 6 subset.npy | tail -c 5

# The report, one file for the browser.
curl -s "$CORESET$job/report" -o report.html -w '%{http_code} %{content_type}\n'

# Done with it: the job and its files go, unless another job uses the scores.
curl -s -X DELETE "$CORESET$job" -w '%{http_code}\n'
curl -s "$CORESET$job"
