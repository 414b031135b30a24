"""The only place that knows doit: graphs become its tasks. doit orders, selects and reports; it judges nothing."""

from flatpack_build.doit_tasks.loader import WarehouseLoader

__all__ = ["WarehouseLoader"]
