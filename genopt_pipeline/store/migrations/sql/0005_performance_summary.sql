CREATE OR REPLACE VIEW genopt.generator_performance_summary AS
WITH posts AS (
    SELECT c.account_id, c.generator_name, c.posted_at, o.impressions, o.followers_gained,
           o.impressions IS NOT NULL AND o.followers_gained IS NOT NULL AS measured,
           c.posted_at > now() - interval '7 days' AS recent,
           c.posted_at <= now() - interval '7 days' AND c.posted_at > now() - interval '14 days'
               AS before
      FROM genopt.content_metadata c
      LEFT JOIN genopt.outcomes o USING (account_id, decision_id)
     WHERE c.status IN ('posted', 'deleted') AND c.generator_name IS NOT NULL
), sums AS (
    SELECT account_id, generator_name,
           count(*) FILTER (WHERE recent) AS posts_7d,
           sum(followers_gained) FILTER (WHERE recent AND measured) AS followers_7d,
           sum(impressions) FILTER (WHERE recent AND measured) AS impressions_7d,
           sum(followers_gained) FILTER (WHERE before AND measured) AS followers_before,
           sum(impressions) FILTER (WHERE before AND measured) AS impressions_before
      FROM posts GROUP BY account_id, generator_name
)
SELECT w.account_id, w.generator_name, w.weight, w.status, w.optimization_locked,
       w.total_posts,
       round(w.total_followers_gained::numeric, 2)::double precision AS total_followers_gained,
       w.total_impressions,
       round(w.avg_f_per_1k::numeric, 4)::double precision AS avg_f_per_1k,
       round(w.avg_engagement_rate::numeric, 6)::double precision AS avg_engagement_rate,
       w.viral_post_count, w.failed_post_count, w.last_used,
       coalesce(s.posts_7d, 0) AS posts_7d,
       round(s.followers_7d::numeric, 2)::double precision AS followers_7d,
       s.impressions_7d,
       round((s.followers_7d * 1000.0 / nullif(s.impressions_7d, 0))::numeric, 4)
           ::double precision AS f_per_1k_7d,
       round((s.followers_before * 1000.0 / nullif(s.impressions_before, 0))::numeric, 4)
           ::double precision AS f_per_1k_before,
       coalesce(h.trend, 'not_enough_data') AS trend
  FROM genopt.generator_weights w
  LEFT JOIN sums s USING (account_id, generator_name)
  LEFT JOIN LATERAL (
      SELECT trend FROM genopt.generator_performance_history
       WHERE account_id = w.account_id AND generator_name = w.generator_name
         AND experiment_arm = 'all' AND period_end - period_start = interval '7 days'
         AND period_end > now() - interval '1 day'
       ORDER BY period_end DESC LIMIT 1
  ) h ON true;
COMMENT ON VIEW genopt.generator_performance_summary IS
    'Life-time and 7-day figures of each generator, rounded, and the tested trend of 7 days in the '
    'newest table of F/1K of the last day.';
