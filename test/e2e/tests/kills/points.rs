//! Kills at named points.
