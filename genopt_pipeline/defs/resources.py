"""What assets work with: the database, the source, the clock. Tests and tours replace them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property

from sqlalchemy import Connection, Engine

from genopt_pipeline.settings import Settings
from genopt_pipeline.sources.base import MetricsSource
from genopt_pipeline.store.engine import open_engine, reading_errors
from genopt_pipeline.store.migrate import check_revision
from genopt_pipeline.store.server import resolve_urls

MakeSource = Callable[["Pipeline", str, datetime], MetricsSource | None]


class Pipeline:
    """One installation at work; opens its database when it is first needed.

    ``make_source`` gets the account and the first window to collect, and returns its source, or
    None where nothing is collected.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        make_source: "MakeSource",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._make_source = make_source
        self._clock = clock

    def now(self) -> datetime:
        """The time; only schedules, sensors and publishing ask for it."""
        return self._clock()

    def source(self, account_id: str, first_window: datetime) -> MetricsSource | None:
        """The source of an account's metrics."""
        return self._make_source(self, account_id, first_window)

    @cached_property
    def engine(self) -> Engine:
        """Engine of genopt's database, whose schema has been checked."""
        url = resolve_urls(self.settings).genopt
        engine = open_engine(url)
        with reading_errors(url), engine.connect() as connection:
            check_revision(connection)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose reads all see the same state, and that writes nothing."""
        with (
            reading_errors(self.engine.url),
            self.engine.connect().execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            ) as connection,
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed whole at the end, or not at all."""
        with reading_errors(self.engine.url), self.engine.begin() as connection:
            yield connection
