//! The CRI v1 services: conversion, validation and one tower stack.
#![forbid(unsafe_code)]
