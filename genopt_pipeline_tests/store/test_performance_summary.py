"""The view that people read in psql says what the tables and the dashboard say."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text


def test_its_trend_is_that_of_the_newest_table_and_its_figures_are_rounded(engine):
    now = datetime.now(UTC)

    def summary(connection, name):
        return connection.execute(
            text("SELECT * FROM generator_performance_summary WHERE generator_name = :name"),
            {"name": name},
        ).one()

    with engine.begin() as connection:
        for days, trend, age in ((7, "improving", 1), (7, "declining", 5), (14, "stable", 1)):
            connection.execute(
                text("""
                    INSERT INTO genopt.generator_performance_history
                        (account_id, generator_name, period_start, period_end, experiment_arm,
                         posts_count, posts_measured, trend, estimator)
                    VALUES ('main', 'coach', :start, :end, 'all', 0, 0, :trend, 'attributed')
                """),
                {
                    "start": now - timedelta(days=days, hours=age),
                    "end": now - timedelta(hours=age),
                    "trend": trend,
                },
            )
        for number in range(3):  # ten times as much as in the week before: too little to be sure
            for days, followers in ((2, 1.0), (9, 0.1)):
                key = {"key": f"p{number}-{days}"}
                connection.execute(
                    text("SELECT genopt.record_post('main', :key, 'explorer', :key, :at)"),
                    key | {"at": now - timedelta(days=days)},
                )
                connection.execute(
                    text("""
                        INSERT INTO genopt.outcomes
                            (account_id, decision_id, observed_at, impressions, followers_gained)
                        VALUES ('main', :key, :at, 300, :followers)
                    """),
                    key | {"at": now, "followers": followers / 3},
                )
        assert summary(connection, "coach").trend == "improving"
        explorer = summary(connection, "explorer")
        assert explorer.trend == "not_enough_data"
        assert (explorer.posts_7d, explorer.f_per_1k_7d, explorer.f_per_1k_before) == (
            3,
            1.1111,
            0.1111,
        )
        # a table of long ago says nothing of today
        connection.execute(
            text(
                "UPDATE genopt.generator_performance_history "
                "SET period_start = period_start - interval '2 days', "
                "period_end = period_end - interval '2 days'"
            )
        )
        assert summary(connection, "coach").trend == "not_enough_data"
