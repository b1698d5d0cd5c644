// Shipping (team couriers): traced by OpenTelemetry's Node SDK as its own documentation says, and by nothing of ours.
'use strict';

const { NodeSDK } = require('@opentelemetry/sdk-node');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');

const sdk = new NodeSDK({ instrumentations: [new HttpInstrumentation()] });
sdk.start();

const http = require('node:http'); // after the SDK, which patches it

const server = http.createServer((request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  const order = new URL(request.url, 'http://shipping').searchParams.get('order');
  if (order === 'no-van') {
    answer(500, { error: 'there is no van' });
    return;
  }
  const call = http.get(`${process.env.WAREHOUSE_URL}/items/${order}`, (items) => {
    items.resume();
    items.on('end', () => {
      if (items.statusCode !== 200) answer(502, { error: 'the warehouse does not know' });
      else setTimeout(() => answer(200, { shipped: order }), order === 'piano' ? 600 : 0);
    });
  });
  call.on('error', () => answer(502, { error: 'the warehouse does not answer' }));
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('listening'));

process.on('SIGTERM', () => sdk.shutdown().finally(() => process.exit(0)));
