"""Maintenance of jobs: reconciler, retention and doctor."""

from coreset_service.maintenance.doctor import Doctor
from coreset_service.maintenance.reconciler import Reconciler
from coreset_service.maintenance.retention import Retention

__all__ = ["Doctor", "Reconciler", "Retention"]
