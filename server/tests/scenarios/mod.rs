mod api;
mod crawl;
mod refusals;
