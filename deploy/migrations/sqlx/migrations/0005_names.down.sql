ALTER TABLE payments RENAME TO transfers;
ALTER TABLE accounts RENAME COLUMN holder TO owner;
