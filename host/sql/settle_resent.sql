-- Takes away what was sent again and has arrived.
SELECT tribox.settle_resent() AS gone
