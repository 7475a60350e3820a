"""The Python client: jobs over HTTP, with the same models and errors as the service.

    client = Client("http://127.0.0.1:8000")
    job = client.submit({"pool": ..., "checkpoints": ..., "select": ...})
    client.wait(job.id, progress=lambda job: print(job.progress.fraction))
    selection = client.select(job.id, SelectSpec(k=1000, by={"clip_score": 1}))

AsyncClient has the same methods, to be awaited. What both do is in `calls`, as generators of steps (`steps`): each
client only performs the steps, in its own way.
"""

from coreset.client.asynchronous import AsyncClient
from coreset.client.blocking import Client
from coreset.client.event_stream import Told
from coreset.client.specs import validate_spec

__all__ = ["AsyncClient", "Client", "Told", "validate_spec"]
