-- No row: it is paused already. $1 handler, $2 by whom
INSERT INTO tribox.paused (handler, paused_by) VALUES ($1, $2) ON CONFLICT (handler) DO NOTHING
