"""RealNet, the detector that learns from synthetic anomalies."""
