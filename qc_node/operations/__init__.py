"""Operations: metrics, health, logs, retention, and the doctor."""
