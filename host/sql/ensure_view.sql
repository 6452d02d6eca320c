-- A view of a collection for people with psql. $1 collection
SELECT tribox.ensure_view($1)
