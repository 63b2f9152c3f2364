"""Operations: metrics, health, logs, housekeeping, and the doctor."""
