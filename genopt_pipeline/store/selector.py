"""The draw for content engines in Python: live weights from the database, defaults without it.

One connection, one short statement a draw. Nothing here needs Dagster.
"""

import logging
import random
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from genopt_pipeline.core import selection
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store.engine import describe, open_engine
from genopt_pipeline.store.migrate import url_from

logger = logging.getLogger("genopt.selector")


@dataclass(frozen=True)
class Selection:
    """A draw: the generator, the probability it really had, the arm, the version of the weights.

    ``weights_version`` is None where the default weights were drawn by.
    """

    generator_name: str
    probability: float
    experiment_arm: str
    weights_version: int | None


class GeneratorSelector:
    """Draws generators by the live weights of an account.

    When the database cannot be reached it logs a warning and draws by the default weights; the
    next draw tries the database again.

    Parameters
    ----------
    url
        As ``genopt db-url`` prints it.
    account
        The account to draw for.
    defaults
        What to draw by without the database; sum 1.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        account: str = "main",
        defaults: dict[str, float] | None = None,
    ) -> None:
        self._engine = open_engine(
            url_from(url if isinstance(url, str) else url.render_as_string(hide_password=False))
        )
        self._account = account
        self._defaults = dict(defaults or DEFAULT_WEIGHTS)
        selection.check_weights(self._defaults)

    def select(self, arm: str = "control", rng: random.Random | None = None) -> Selection:
        """Draw a generator for an arm.

        Raises
        ------
        ValueError
            An unknown arm.
        LookupError
            The database answers, but the account is not registered.
        """
        if arm not in selection.ARMS:
            raise ValueError(f"unknown arm {arm!r}; the arms are {', '.join(selection.ARMS)}")
        u = (rng or random.SystemRandom()).random()
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(
                    text("SELECT * FROM genopt.arm_weights(:account, :arm)"),
                    {"account": self._account, "arm": arm},
                ).all()
        except DBAPIError as error:
            logger.warning(
                "drawing by the default weights: the database does not answer: %s",
                describe(error),
            )
            weights = selection.arm_weights(self._defaults, arm, defaults=self._defaults)
            name, probability = selection.draw(weights, u)
            return Selection(name, probability, arm, None)
        if not rows:
            raise LookupError(f"account {self._account!r} is not registered")
        name, probability = selection.draw({row.generator_name: row.probability for row in rows}, u)
        return Selection(name, probability, arm, rows[0].weights_version)

    def record_post(
        self,
        decision_id: str,
        selected: Selection,
        *,
        tweet_id: str | None = None,
        posted_at: datetime | None = None,
        status: str = "posted",
        generator_confidence: float | None = None,
        quality_score: float | None = None,
    ) -> str | None:
        """Record a post and its draw; returns the registered generator, None if quarantined.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            The post is recorded with another generator; trying again does not help.
        sqlalchemy.exc.SQLAlchemyError
            It was not recorded; try again, recording twice changes nothing.
        """
        with self._engine.begin() as connection:
            return record_post(
                connection,
                self._account,
                decision_id,
                selected.generator_name,
                tweet_id=tweet_id,
                posted_at=posted_at,
                status=status,
                experiment_arm=selected.experiment_arm,
                selection_probability=selected.probability,
                weights_version=selected.weights_version,
                generator_confidence=generator_confidence,
                quality_score=quality_score,
            )

    def close(self) -> None:
        """Close the connections."""
        try:
            self._engine.dispose()
        except SQLAlchemyError as error:
            logger.warning("closing: %s", error)


def record_post(
    connection: Connection,
    account_id: str,
    decision_id: str,
    generator_name: str | None,
    *,
    tweet_id: str | None = None,
    posted_at: datetime | None = None,
    status: str = "posted",
    experiment_arm: str | None = None,
    selection_probability: float | None = None,
    weights_version: int | None = None,
    generator_confidence: float | None = None,
    quality_score: float | None = None,
) -> str | None:
    """Record a post, or what became of it, in the caller's transaction; see SQL ``record_post``.

    What was recorded of its draw stays: another generator is refused (``correct_post`` is for a
    person), another arm, probability or version of the weights is not taken.

    Raises
    ------
    sqlalchemy.exc.IntegrityError
        The post is recorded with another generator.
    """
    value: str | None = connection.scalar(
        text("""
            SELECT genopt.record_post(
                p_account => :account, p_decision_id => :decision, p_generator_name => :generator,
                p_tweet_id => :tweet, p_posted_at => :posted_at, p_status => :status,
                p_experiment_arm => :arm, p_selection_probability => :probability,
                p_weights_version => :version, p_generator_confidence => :confidence,
                p_quality_score => :quality)
        """),
        {
            "account": account_id,
            "decision": decision_id,
            "generator": generator_name,
            "tweet": tweet_id,
            "posted_at": posted_at,
            "status": status,
            "arm": experiment_arm,
            "probability": selection_probability,
            "version": weights_version,
            "confidence": generator_confidence,
            "quality": quality_score,
        },
    )
    return value
