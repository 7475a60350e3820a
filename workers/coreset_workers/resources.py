"""Large objects that a process keeps between the tasks of one plan: its loader, its scorer, an evaluation's data."""

from coreset.schemas.plan import Plan
from coreset.schemas.trials import Setup
from coreset.storage.layout import load_plan
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.trial import Advance, ProxyData, load_data
from coreset_workers.model.device import compute_device
from coreset_workers.model.inputs import views
from coreset_workers.stages.scorer import Scorer


class Resources:
    """Makes each object when it is first needed, and drops it when another plan's is.

    Args:
        loader_processes: 0 decodes in this process.
    """

    def __init__(self, storage: Storage, loader_processes: int) -> None:
        self.storage = storage
        self.device = compute_device()
        self._loader_processes = loader_processes
        self._plans: dict[str, Plan] = {}
        self._loader: tuple[str, Loader] | None = None
        self._scorer: tuple[str, Scorer] | None = None
        self._proxy_data: tuple[str, ProxyData] | None = None

    def plan(self, plan_id: str) -> Plan:
        """Return a plan from the storage; plans never change."""
        if plan_id not in self._plans:
            self._plans[plan_id] = load_plan(self.storage, plan_id)
        return self._plans[plan_id]

    def loader(self, plan: Plan) -> Loader:
        if self._loader is None or self._loader[0] != plan.id:
            self._close_loader()
            self._loader = (
                plan.id,
                Loader(views(plan), plan.caption_field, self._loader_processes, plan.metadata, plan.captions),
            )
        return self._loader[1]

    def scorer(self, plan: Plan) -> Scorer:
        if self._scorer is None or self._scorer[0] != plan.id:
            self._scorer = None  # before the next one is made: both would not fit into the device's memory
            self._scorer = plan.id, Scorer(plan, self.storage, self.device)
        return self._scorer[1]

    def drop_scorer(self) -> None:
        self._scorer = None

    def proxy_data(self, setup: Setup, advance: Advance) -> ProxyData:
        """Return what all proxies of an evaluation are trained and tested on."""
        if self._proxy_data is None or self._proxy_data[0] != setup.data_key:
            self._proxy_data = None
            data = load_data(setup, self.plan(setup.plan_id), self._loader_processes, advance)
            self._proxy_data = setup.data_key, data
        return self._proxy_data[1]

    def drop_proxy_data(self) -> None:
        self._proxy_data = None

    def close(self) -> None:
        """Drop everything and end the loader processes."""
        self._close_loader()
        self._scorer = self._proxy_data = None

    def _close_loader(self) -> None:
        if self._loader is not None:
            self._loader[1].close()
        self._loader = None
