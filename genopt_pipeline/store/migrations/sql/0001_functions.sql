-- Functions, triggers and views of the first schema. Frozen with migration 0001.

-- Names -----------------------------------------------------------------------------------------

CREATE FUNCTION genopt.normalize_generator_name(raw text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog
RETURN regexp_replace(
    translate(
        regexp_replace(btrim(raw, E' \t\n\r\f\x0B\u00a0'), '\([^()]*\)\Z', ''),
        'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'
    ),
    E'[ \t\n\r\f\x0B\u00a0_-]', '', 'g'
);
COMMENT ON FUNCTION genopt.normalize_generator_name IS
    'The key under which spellings of a generator''s name are compared.';

CREATE FUNCTION genopt.resolve_generator(p_account text, p_raw text) RETURNS text
    LANGUAGE sql STABLE STRICT
    SET search_path = pg_catalog
AS $$
    SELECT coalesce(
        (SELECT w.generator_name FROM genopt.generator_weights w
          WHERE w.account_id = p_account AND w.generator_name = p_raw),
        (SELECT a.generator_name FROM genopt.generator_aliases a
          WHERE a.account_id = p_account
            AND a.alias_key = genopt.normalize_generator_name(p_raw)
            AND a.alias_key <> '')
    )
$$;
COMMENT ON FUNCTION genopt.resolve_generator IS
    'The registered generator that a spelling stands for, or null.';

CREATE FUNCTION genopt.register_alias() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF genopt.normalize_generator_name(NEW.generator_name) = '' THEN
        RAISE EXCEPTION 'generator name % has no letters or digits', quote_literal(NEW.generator_name)
            USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO genopt.generator_aliases (account_id, alias_key, generator_name)
    VALUES (NEW.account_id, genopt.normalize_generator_name(NEW.generator_name), NEW.generator_name);
    RETURN NULL;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'generator % is spelled like another generator or alias of account %',
        NEW.generator_name, NEW.account_id USING ERRCODE = 'unique_violation';
END $$;
CREATE TRIGGER register_alias AFTER INSERT ON genopt.generator_weights
    FOR EACH ROW EXECUTE FUNCTION genopt.register_alias();

-- Posts -----------------------------------------------------------------------------------------

CREATE FUNCTION genopt.check_content() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    resolved text;
BEGIN
    IF NEW.generator_name IS NOT NULL
       AND (TG_OP = 'INSERT' OR NEW.generator_name IS DISTINCT FROM OLD.generator_name) THEN
        resolved := genopt.resolve_generator(NEW.account_id, NEW.generator_name);
        IF resolved IS DISTINCT FROM NEW.generator_name THEN
            NEW.generator_name_raw := NEW.generator_name;
        END IF;
        IF resolved IS NULL THEN
            INSERT INTO genopt.quarantine
                (account_id, kind, source, place, reason, raw, fingerprint)
            VALUES (
                NEW.account_id, 'generator_name', NEW.source, 'decision_id ' || NEW.decision_id,
                'unknown generator ' || quote_literal(NEW.generator_name),
                jsonb_build_object('decision_id', NEW.decision_id,
                                   'generator_name', NEW.generator_name),
                'generator_name:' || md5(NEW.decision_id || chr(31) || NEW.generator_name)
            )
            ON CONFLICT (account_id, fingerprint) DO NOTHING;
        END IF;
        NEW.generator_name := resolved;
    END IF;
    NEW.updated_at := now();
    NEW.selection_counted :=
        (TG_OP = 'UPDATE' AND OLD.selection_counted)
        OR (NEW.status = 'posted' AND NEW.generator_name IS NOT NULL);
    RETURN NEW;
END $$;
CREATE TRIGGER check_content BEFORE INSERT OR UPDATE ON genopt.content_metadata
    FOR EACH ROW EXECUTE FUNCTION genopt.check_content();

CREATE FUNCTION genopt.count_selection() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF NEW.selection_counted AND (TG_OP = 'INSERT' OR NOT OLD.selection_counted) THEN
        UPDATE genopt.generator_weights
           SET times_selected = times_selected + 1,
               last_used = greatest(last_used, NEW.posted_at)
         WHERE account_id = NEW.account_id AND generator_name = NEW.generator_name;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION genopt.count_selection IS
    'Counts a post once, when it is live and its generator known; never backwards.';
CREATE TRIGGER count_selection AFTER INSERT OR UPDATE ON genopt.content_metadata
    FOR EACH ROW EXECUTE FUNCTION genopt.count_selection();

CREATE FUNCTION genopt.touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON genopt.outcomes
    FOR EACH ROW EXECUTE FUNCTION genopt.touch_updated_at();

-- Append-only history ---------------------------------------------------------------------------

CREATE FUNCTION genopt.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    -- a discovered post takes the engine's key once that is known; the key cascades
    IF TG_OP = 'UPDATE' AND pg_trigger_depth() > 1
       AND to_jsonb(NEW) - 'decision_id' = to_jsonb(OLD) - 'decision_id' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'genopt.% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON genopt.post_metric_snapshots
    FOR EACH ROW EXECUTE FUNCTION genopt.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON genopt.follower_counts
    FOR EACH ROW EXECUTE FUNCTION genopt.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON genopt.optimization_events
    FOR EACH ROW EXECUTE FUNCTION genopt.refuse_change();

CREATE FUNCTION genopt.ensure_snapshot_partitions(p_from timestamptz, p_to timestamptz)
    RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    month_start timestamp := date_trunc('month', p_from AT TIME ZONE 'UTC');
    last_month timestamp := date_trunc('month', p_to AT TIME ZONE 'UTC');
    made integer := 0;
    partition_name text;
BEGIN
    IF p_to - p_from > interval '20 years' THEN
        RAISE EXCEPTION 'more than 20 years of partitions asked for (% to %)', p_from, p_to;
    END IF;
    WHILE month_start <= last_month LOOP
        partition_name := 'post_metric_snapshots_' || to_char(month_start, 'YYYYMM');
        IF to_regclass('genopt.' || partition_name) IS NULL THEN
            -- two collectors may meet here at the turn of a month
            PERFORM pg_advisory_xact_lock(hashtext('genopt.ensure_snapshot_partitions'));
            IF to_regclass('genopt.' || partition_name) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE genopt.%I PARTITION OF genopt.post_metric_snapshots '
                    'FOR VALUES FROM (%L) TO (%L)',
                    partition_name,
                    to_char(month_start, 'YYYY-MM-DD') || ' 00:00:00+00',
                    to_char(month_start + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
                );
                made := made + 1;
            END IF;
        END IF;
        month_start := month_start + interval '1 month';
    END LOOP;
    RETURN made;
END $$;
COMMENT ON FUNCTION genopt.ensure_snapshot_partitions IS
    'Makes the monthly partitions of post_metric_snapshots from one time to another.';

-- Weights ---------------------------------------------------------------------------------------

CREATE FUNCTION genopt.check_weight_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.updated_at := now();
    IF NEW.weight IS DISTINCT FROM OLD.weight OR NEW.status IS DISTINCT FROM OLD.status THEN
        NEW.last_updated := now();
    END IF;
    IF OLD.optimization_locked AND NEW.optimization_locked
       AND NEW.weight IS DISTINCT FROM OLD.weight
       AND coalesce(current_setting('genopt.override', true), '') <> 'on' THEN
        RAISE EXCEPTION 'generator % of account % is locked at %; unlock it or override it',
            OLD.generator_name, OLD.account_id, OLD.weight
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_weight_change BEFORE UPDATE ON genopt.generator_weights
    FOR EACH ROW EXECUTE FUNCTION genopt.check_weight_change();

CREATE FUNCTION genopt.check_weights() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    changed_account text := CASE WHEN TG_OP = 'DELETE' THEN OLD.account_id ELSE NEW.account_id END;
    total numeric;
    live jsonb;
    live_states jsonb;
    logged record;
BEGIN
    SELECT sum(weight), jsonb_object_agg(generator_name, weight),
           jsonb_object_agg(generator_name, jsonb_build_object(
               'status', status, 'locked', optimization_locked))
      INTO total, live, live_states
      FROM genopt.generator_weights WHERE account_id = changed_account;
    IF total IS NULL THEN
        RETURN NULL;  -- the account has no generators (any more)
    END IF;
    IF total <> 1 THEN
        RAISE EXCEPTION 'the weights of account % sum to %, not to 1', changed_account, total
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT e.weights_after, e.states_after INTO logged
      FROM genopt.optimization_events e JOIN genopt.accounts a USING (account_id)
     WHERE e.account_id = changed_account AND e.weights_version = a.weights_version;
    IF logged.weights_after IS DISTINCT FROM live
       OR logged.states_after IS DISTINCT FROM live_states THEN
        RAISE EXCEPTION 'the weights or states of account % were changed without an event; use genopt set-weight, lock or disable',
            changed_account USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION genopt.check_weights IS
    'At commit: weights sum to exactly 1 and are those of the newest weight event.';
CREATE CONSTRAINT TRIGGER check_weights
    AFTER INSERT OR DELETE OR UPDATE OF weight, status, optimization_locked ON genopt.generator_weights
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION genopt.check_weights();

CREATE FUNCTION genopt.check_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    newest record;
BEGIN
    IF NEW.weights_after IS NULL THEN
        RETURN NEW;
    END IF;
    IF (SELECT sum(value::numeric) FROM jsonb_each_text(NEW.weights_after)) IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION 'the weights of this event do not sum to 1'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT weights_version, effective_at INTO newest
      FROM genopt.optimization_events
     WHERE account_id = NEW.account_id AND weights_after IS NOT NULL
     ORDER BY weights_version DESC LIMIT 1;
    IF FOUND AND (NEW.weights_version <> newest.weights_version + 1
                  OR NEW.effective_at < newest.effective_at) THEN
        RAISE EXCEPTION 'version % effective at % does not follow version % effective at %',
            NEW.weights_version, NEW.effective_at, newest.weights_version, newest.effective_at
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION genopt.check_event IS
    'Versions follow each other, and none changes what was in force before.';
CREATE TRIGGER check_event BEFORE INSERT ON genopt.optimization_events
    FOR EACH ROW EXECUTE FUNCTION genopt.check_event();

CREATE FUNCTION genopt.weights_in_force(p_account text, p_at timestamptz)
    RETURNS TABLE (generator_name text, weight numeric, weights_version integer,
                   status text, optimization_locked boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH newest AS (
        SELECT e.weights_after, e.states_after, e.weights_version FROM genopt.optimization_events e
         WHERE e.account_id = p_account AND e.weights_after IS NOT NULL AND e.effective_at <= p_at
         ORDER BY e.weights_version DESC LIMIT 1
    )
    SELECT w.key, w.value::numeric, newest.weights_version,
           newest.states_after -> w.key ->> 'status',
           (newest.states_after -> w.key ->> 'locked')::boolean
      FROM newest, jsonb_each_text(newest.weights_after) w
     ORDER BY w.key COLLATE "C"
$$;
COMMENT ON FUNCTION genopt.weights_in_force IS 'The weights of an account at a time.';

CREATE FUNCTION genopt.arm_weights(p_account text, p_arm text)
    RETURNS TABLE (generator_name text, probability double precision, weights_version integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF p_arm NOT IN ('control', 'variant_a', 'variant_b', 'holdout') THEN
        RAISE EXCEPTION 'unknown arm %; the arms are control, variant_a, variant_b, holdout',
            quote_literal(p_arm) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    -- one statement, so one version of the weights
    WITH live AS (
        SELECT w.generator_name AS name, w.weight::double precision AS weight, a.weights_version AS v,
               count(*) OVER () AS n,
               row_number() OVER (ORDER BY w.weight, w.generator_name COLLATE "C") AS from_below
          FROM genopt.generator_weights w JOIN genopt.accounts a USING (account_id)
         WHERE w.account_id = p_account AND w.weight > 0
    ), started AS (
        SELECT d.key AS name, d.value::double precision AS weight
          FROM genopt.optimization_events e, jsonb_each_text(e.weights_after) d
         WHERE e.account_id = p_account AND e.event_type = 'initial_weights'
    ), masses AS (
        SELECT l.name, l.v,
               CASE p_arm
                   WHEN 'control' THEN l.weight
                   WHEN 'variant_a' THEN l.weight + 0.30::float8 * (1.0::float8 / l.n - l.weight)
                   WHEN 'variant_b' THEN l.weight *
                       CASE WHEN l.from_below <= greatest(1, l.n / 3) THEN 1.3::float8
                            ELSE 0.9::float8 END
                   ELSE CASE WHEN sum(coalesce(s.weight, 0)) OVER () > 0
                             THEN coalesce(s.weight, 0) ELSE 1.0::float8 END
               END AS mass
          FROM live l LEFT JOIN started s ON s.name = l.name
    )
    SELECT m.name,
           CASE WHEN p_arm IN ('variant_b', 'holdout') THEN m.mass / sum(m.mass) OVER ()
                ELSE m.mass END,
           m.v
      FROM masses m ORDER BY m.name COLLATE "C";
END $$;
COMMENT ON FUNCTION genopt.arm_weights IS 'The probabilities by which an arm draws.';

CREATE FUNCTION genopt.select_generator(
    p_account text DEFAULT 'main', p_arm text DEFAULT 'control',
    p_u double precision DEFAULT NULL)
    RETURNS TABLE (generator_name text, probability double precision, experiment_arm text,
                   weights_version integer)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    u double precision := coalesce(p_u, random());
BEGIN
    IF NOT (u >= 0 AND u < 1) THEN
        RAISE EXCEPTION 'u is %; it must be in [0, 1)', u USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH arm AS (
        SELECT a.generator_name AS name, a.probability AS p, a.weights_version AS v,
               sum(a.probability) OVER (ORDER BY a.generator_name COLLATE "C") AS upto,
               row_number() OVER (ORDER BY a.generator_name COLLATE "C" DESC) AS from_end
          FROM genopt.arm_weights(p_account, p_arm) a
         WHERE a.probability > 0
    )
    SELECT arm.name, arm.p, p_arm, arm.v FROM arm
     WHERE u < arm.upto OR arm.from_end = 1
     ORDER BY arm.from_end DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % has no generators to draw from', quote_literal(p_account)
            USING ERRCODE = 'no_data_found';
    END IF;
END $$;
COMMENT ON FUNCTION genopt.select_generator IS
    'Draws a generator for an arm; u in [0, 1) is random unless given.';

CREATE FUNCTION genopt.record_post(
    p_account text, p_decision_id text, p_generator_name text,
    p_tweet_id text DEFAULT NULL, p_posted_at timestamptz DEFAULT NULL,
    p_status text DEFAULT 'posted', p_experiment_arm text DEFAULT NULL,
    p_selection_probability double precision DEFAULT NULL,
    p_weights_version integer DEFAULT NULL, p_generator_confidence double precision DEFAULT NULL,
    p_quality_score double precision DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    registered text;
    draft genopt.content_metadata;
BEGIN
    -- The collector may have discovered the post first, under a key of its own. Its row and all
    -- that was observed of it take the engine's key; a draft under that key is merged into it.
    IF EXISTS (SELECT FROM genopt.content_metadata c
                WHERE c.account_id = p_account AND c.tweet_id = p_tweet_id
                  AND c.decision_id = 'x:' || p_tweet_id AND c.decision_id <> p_decision_id) THEN
        DELETE FROM genopt.content_metadata c
         WHERE c.account_id = p_account AND c.decision_id = p_decision_id AND c.tweet_id IS NULL
        RETURNING * INTO draft;
        UPDATE genopt.content_metadata c
           SET decision_id = p_decision_id, source = 'engine',
               generator_name = coalesce(draft.generator_name, c.generator_name),
               experiment_arm = coalesce(draft.experiment_arm, c.experiment_arm),
               selection_probability = coalesce(draft.selection_probability,
                                                c.selection_probability),
               weights_version = coalesce(draft.weights_version, c.weights_version),
               generator_confidence = coalesce(draft.generator_confidence, c.generator_confidence),
               quality_score = coalesce(draft.quality_score, c.quality_score)
         WHERE c.account_id = p_account AND c.decision_id = 'x:' || p_tweet_id;
    END IF;
    INSERT INTO genopt.content_metadata AS c
        (account_id, decision_id, generator_name, tweet_id, posted_at, status, experiment_arm,
         selection_probability, weights_version, generator_confidence, quality_score, source)
    VALUES (p_account, p_decision_id, p_generator_name, p_tweet_id,
            coalesce(p_posted_at, CASE WHEN p_status = 'posted' THEN now() END), p_status,
            p_experiment_arm, p_selection_probability, p_weights_version, p_generator_confidence,
            p_quality_score, 'engine')
    ON CONFLICT (account_id, decision_id) DO UPDATE SET
        tweet_id = coalesce(excluded.tweet_id, c.tweet_id),
        -- a post went live once; saying so again, later, does not move it
        posted_at = coalesce(c.posted_at, excluded.posted_at),
        status = CASE WHEN c.status = 'deleted' THEN c.status ELSE excluded.status END,
        generator_name = coalesce(excluded.generator_name, c.generator_name),
        generator_name_raw = coalesce(excluded.generator_name_raw, c.generator_name_raw),
        experiment_arm = coalesce(excluded.experiment_arm, c.experiment_arm),
        selection_probability = coalesce(excluded.selection_probability, c.selection_probability),
        weights_version = coalesce(excluded.weights_version, c.weights_version),
        generator_confidence = coalesce(excluded.generator_confidence, c.generator_confidence),
        quality_score = coalesce(excluded.quality_score, c.quality_score)
    RETURNING c.generator_name INTO registered;
    RETURN registered;
END $$;
COMMENT ON FUNCTION genopt.record_post IS
    'Records a post, or what became of it; returns its registered generator, null if quarantined.';

-- Conservation of followers ---------------------------------------------------------------------

CREATE FUNCTION genopt.check_conservation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    changed record;
    line record;
    credited double precision;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    SELECT b.delta, b.followers, d.delta AS observed INTO line
      FROM genopt.follower_baseline b
      JOIN genopt.follower_deltas d USING (account_id, window_start)
     WHERE b.account_id = changed.account_id AND b.window_start = changed.window_start;
    SELECT coalesce(sum(p.followers), 0) INTO credited FROM genopt.post_followers p
     WHERE p.account_id = changed.account_id AND p.window_start = changed.window_start;
    IF line IS NULL THEN
        IF credited <> 0 THEN
            RAISE EXCEPTION 'window % credits posts with % followers and has no baseline',
                changed.window_start, credited USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    ELSIF line.delta IS DISTINCT FROM line.observed::double precision
       OR abs(credited + line.followers - line.delta) > 1e-6 * greatest(1, abs(line.delta)) THEN
        RAISE EXCEPTION
            'window %: posts % and baseline % do not sum to the change of %',
            changed.window_start, credited, line.followers, line.observed
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION genopt.check_conservation IS
    'At commit: posts and baseline of a window sum to its follower change.';
CREATE CONSTRAINT TRIGGER check_conservation AFTER INSERT OR UPDATE OR DELETE
    ON genopt.follower_baseline DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION genopt.check_conservation();
CREATE CONSTRAINT TRIGGER check_conservation AFTER INSERT OR UPDATE OR DELETE
    ON genopt.post_followers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION genopt.check_conservation();

-- Performance -----------------------------------------------------------------------------------

CREATE FUNCTION genopt.update_generator_stats(p_name text, p_account text DEFAULT 'main')
    RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH posts AS (
        SELECT c.quality_score, o.likes, o.retweets, o.replies, o.impressions, o.followers_gained,
               o.impressions IS NOT NULL AND o.followers_gained IS NOT NULL AS measured
          FROM genopt.content_metadata c
          LEFT JOIN genopt.outcomes o USING (account_id, decision_id)
         WHERE c.account_id = p_account AND c.generator_name = p_name
           AND c.status IN ('posted', 'deleted')
    ), figures AS (
        SELECT count(*) AS total_posts,
               sum(followers_gained) FILTER (WHERE measured) AS followers,
               sum(impressions) FILTER (WHERE measured) AS impressions,
               sum(likes + 2 * retweets + 3 * replies) FILTER (
                   WHERE impressions IS NOT NULL)::double precision
                   / nullif(sum(impressions) FILTER (
                       WHERE likes IS NOT NULL AND retweets IS NOT NULL AND replies IS NOT NULL), 0)
                   AS engagement_rate,
               avg(likes) AS likes, avg(retweets) AS retweets, avg(replies) AS replies,
               avg(quality_score) AS quality,
               count(*) FILTER (WHERE measured AND impressions > 100 AND followers_gained >= 1
                                AND followers_gained * 1000.0 / impressions > 5) AS viral,
               count(*) FILTER (WHERE measured AND impressions > 100
                                AND followers_gained < 0.5) AS failed
          FROM posts
    )
    UPDATE genopt.generator_weights w
       SET total_posts = f.total_posts,
           total_followers_gained = f.followers,
           total_impressions = f.impressions,
           avg_f_per_1k = f.followers * 1000.0 / nullif(f.impressions, 0),
           avg_engagement_rate = f.engagement_rate,
           avg_likes = f.likes, avg_retweets = f.retweets, avg_replies = f.replies,
           avg_quality_score = f.quality,
           viral_post_count = f.viral, failed_post_count = f.failed,
           stats_as_of = now()
      FROM figures f
     WHERE w.account_id = p_account AND w.generator_name = p_name
$$;
COMMENT ON FUNCTION genopt.update_generator_stats IS
    'Recomputes the life-time figures of a generator from its posts.';

CREATE VIEW genopt.generator_performance_summary AS
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
           count(*) FILTER (WHERE recent AND measured) AS measured_7d,
           sum(followers_gained) FILTER (WHERE recent AND measured) AS followers_7d,
           sum(impressions) FILTER (WHERE recent AND measured) AS impressions_7d,
           count(*) FILTER (WHERE before AND measured) AS measured_before,
           sum(followers_gained) FILTER (WHERE before AND measured) AS followers_before,
           sum(impressions) FILTER (WHERE before AND measured) AS impressions_before
      FROM posts GROUP BY account_id, generator_name
), rates AS (
    SELECT s.*, followers_7d * 1000.0 / nullif(impressions_7d, 0) AS f_per_1k_7d,
           followers_before * 1000.0 / nullif(impressions_before, 0) AS f_per_1k_before
      FROM sums s
)
SELECT w.account_id, w.generator_name, w.weight, w.status, w.optimization_locked,
       w.total_posts, w.total_followers_gained, w.total_impressions, w.avg_f_per_1k,
       w.avg_engagement_rate, w.viral_post_count, w.failed_post_count, w.last_used,
       coalesce(r.posts_7d, 0) AS posts_7d, r.followers_7d, r.impressions_7d, r.f_per_1k_7d,
       r.f_per_1k_before,
       CASE
           WHEN coalesce(r.measured_7d, 0) < 3 OR coalesce(r.measured_before, 0) < 3
                OR r.f_per_1k_7d IS NULL OR r.f_per_1k_before IS NULL THEN 'not_enough_data'
           WHEN r.f_per_1k_7d - r.f_per_1k_before > 0.2 * abs(r.f_per_1k_before) THEN 'improving'
           WHEN r.f_per_1k_7d - r.f_per_1k_before < -0.2 * abs(r.f_per_1k_before) THEN 'declining'
           ELSE 'stable'
       END AS trend
  FROM genopt.generator_weights w
  LEFT JOIN rates r USING (account_id, generator_name);
COMMENT ON VIEW genopt.generator_performance_summary IS
    'Life-time and 7-day figures of each generator, and the trend against the 7 days before.';
