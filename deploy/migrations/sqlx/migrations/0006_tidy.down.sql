ALTER TABLE payments ADD COLUMN note text;
UPDATE accounts SET holder = lower(holder);
