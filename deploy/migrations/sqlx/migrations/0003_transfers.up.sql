CREATE TABLE transfers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source bigint NOT NULL,
    target bigint NOT NULL,
    amount numeric(14,2) NOT NULL CHECK (amount > 0),
    note text,
    CHECK (source <> target)
);
