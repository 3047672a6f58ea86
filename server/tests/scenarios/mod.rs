mod api;
mod crawl;
mod faults;
mod handover;
mod refusals;
mod restart;
mod shutdown;
