-- record_post as of migration 0004: the draw of a post is recorded once. Frozen with it.

CREATE OR REPLACE FUNCTION genopt.record_post(
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
    named text := genopt.resolve_generator(p_account, p_generator_name);
    registered text;
    draft genopt.content_metadata;
BEGIN
    IF p_status NOT IN ('draft', 'scheduled', 'posted', 'failed', 'deleted') THEN
        RAISE EXCEPTION 'unknown status %; a post is draft, scheduled, posted, failed or deleted',
            quote_literal(p_status) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_experiment_arm NOT IN ('control', 'variant_a', 'variant_b', 'holdout') THEN
        RAISE EXCEPTION 'unknown arm %; the arms are control, variant_a, variant_b, holdout',
            quote_literal(p_experiment_arm) USING ERRCODE = 'invalid_parameter_value';
    END IF;
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
               generator_name = coalesce(c.generator_name, draft.generator_name),
               experiment_arm = coalesce(c.experiment_arm, draft.experiment_arm),
               selection_probability = coalesce(c.selection_probability,
                                                draft.selection_probability),
               weights_version = coalesce(c.weights_version, draft.weights_version),
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
        -- a post was drawn once and went live once; saying so again, later, does not move it
        posted_at = coalesce(c.posted_at, excluded.posted_at),
        status = CASE WHEN c.status = 'deleted' THEN c.status ELSE excluded.status END,
        generator_name = coalesce(c.generator_name, excluded.generator_name),
        generator_name_raw = coalesce(excluded.generator_name_raw, c.generator_name_raw),
        experiment_arm = coalesce(c.experiment_arm, excluded.experiment_arm),
        selection_probability = coalesce(c.selection_probability, excluded.selection_probability),
        weights_version = coalesce(c.weights_version, excluded.weights_version),
        generator_confidence = coalesce(excluded.generator_confidence, c.generator_confidence),
        quality_score = coalesce(excluded.quality_score, c.quality_score)
    RETURNING c.generator_name INTO registered;
    -- after the write, so that of two recordings at the same time the second sees the first
    IF (p_generator_name IS NOT NULL AND registered IS DISTINCT FROM named)
       OR (draft.generator_name IS NOT NULL AND registered <> draft.generator_name) THEN
        RAISE EXCEPTION 'post % of account % is recorded with generator %, not %; an operator can correct it with genopt record-post --correct',
            p_decision_id, p_account,
            registered, coalesce(p_generator_name, draft.generator_name)
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN registered;
END $$;
COMMENT ON FUNCTION genopt.record_post IS
    'Records a post, or what became of it; returns its registered generator, null if quarantined.';
