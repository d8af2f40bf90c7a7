-- A fact that is absent from an event is zero.
SELECT tenant_id,
       substr(time, 1, 10) AS day,
       count(*) AS calls,
       sum(coalesce(CAST(data ->> 'prompt_tokens' AS INTEGER), 0)
           + coalesce(CAST(data ->> 'completion_tokens' AS INTEGER), 0)) AS tokens,
       sum(coalesce(CAST(data ->> 'cost_micro_usd' AS INTEGER), 0)) / 1e6 AS cost_usd
  FROM events
 WHERE event_type = 'model.usage.recorded'
 GROUP BY tenant_id, day
 ORDER BY day, tenant_id
