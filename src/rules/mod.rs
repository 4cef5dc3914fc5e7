//! Pure decisions: `now` is always an argument, and the same input gives the same answer.
