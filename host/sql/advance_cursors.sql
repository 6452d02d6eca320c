-- How far logs were published, when no commit takes it along. $1 writers, $2 sequences
UPDATE tribox.writers w SET published = u.published
  FROM unnest($1::integer[], $2::bigint[]) AS u (id, published)
 WHERE w.id = u.id AND w.published < u.published
