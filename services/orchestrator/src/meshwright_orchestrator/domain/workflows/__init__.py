"""Workflows: steps of agents, tools and people that are retried and resumed one by one."""
