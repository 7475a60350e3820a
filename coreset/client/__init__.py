"""Python client: jobs over HTTP, with the models and errors of the service.

    client = Client("http://127.0.0.1:8000")
    job = client.submit({"pool": ..., "checkpoints": ..., "select": ...})
    client.wait(job.id, progress=lambda job: print(job.progress.fraction))
    selection = client.select(job.id, SelectSpec(k=1000, by={"clip_score": 1}))

AsyncClient has the same methods for asyncio. `operations` defines what both clients do, as generators of `effects`.
"""

from coreset.client.asynchronous import AsyncClient
from coreset.client.blocking import Client
from coreset.client.event_stream import StreamedEvent
from coreset.client.specs import validate_spec

__all__ = ["AsyncClient", "Client", "StreamedEvent", "validate_spec"]
