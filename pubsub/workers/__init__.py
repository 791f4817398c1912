"""Several processes that serve as one server: a supervisor accepts connections and hands them to its workers."""
