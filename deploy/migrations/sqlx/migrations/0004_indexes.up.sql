-- no-transaction
CREATE INDEX transfers_source ON transfers (source) INCLUDE (amount);
