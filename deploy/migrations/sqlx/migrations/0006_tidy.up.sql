UPDATE accounts SET holder = upper(holder);
ALTER TABLE payments ALTER COLUMN note SET DEFAULT '';
ALTER TABLE payments DROP COLUMN note;
