// The tests of what goes through a tunnel that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/capture.test.js');
await import('../netns/geneve.test.js');
await import('../netns/path-news.test.js');
await import('../netns/queues.test.js');
await import('../netns/segments.test.js');
