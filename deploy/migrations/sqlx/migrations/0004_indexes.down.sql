-- no-transaction
DROP INDEX transfers_source;
