-- $1 handler, $2 version, $3 digest
INSERT INTO tribox.components (handler, version, digest) VALUES ($1, $2, $3)
ON CONFLICT (handler, digest) DO UPDATE SET version = excluded.version
RETURNING id
